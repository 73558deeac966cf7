"""What the parts of the learner are fixed at, and the measurement behind each."""

HEAD_BOOST_ROWS = 2000
"""Rows after which half of ``head_boost`` is left."""
LOSS_BOUND = 4.0
"""Nats at which ``hedge_loss="bounded"`` cuts a head's cross-entropy."""

OUTLIER = 8.0
"""Standard deviations at which a number is cut before it enters the moments. At 4, a pixel that is
rarely lit is all outliers, and digits go from 1.1 to 1.4 %; without, one row ruins a feature."""
MOMENTS_WARM_UP = 20
"""Rows of moments before which nothing is an outlier."""
SOFT_LIMIT = 5.0
"""Standard deviations beyond which a standardised number grows by its logarithm. Cut hard, Cauchy
features lose what tells them apart (shuttle 0.18 instead of 0.13 %)."""
RECENT_ROWS = 100
"""Rows that the recent moments reach back."""
SHIFT = 4.0
"""Standard deviations between the two means at which the recent moments take over."""
SCALE_CHANGE = 30.0
"""Times that one variance is the other, at which they do. A shift by 1000 costs 3.0 %, and 16.8
without; on the streams of docs/defaults.md it happens in Electricity and in pixels alone."""

LEAST_CURVATURE = 0.02
"""Least curvature of a row for a recursive head that drifts, so that sure rows count too."""

SHALLOW_RATE = 0.01
"""Step size of the shallow network. It matters in long streams: 300,000 rows of CD1 24.7 %
without, 23.9 with it."""
SHALLOW_CLIP = 10.0
"""Largest norm of one layer's gradient there."""

RANDOM_SCALE = 2.0
"""Standard deviation of a random feature's sum, of standardised inputs."""
RANDOM_BIAS = 1.5
"""Standard deviation of its bias. At 0.7 and 1.4 Bananas go from 11.4 to 11.7 %."""
RANDOM_VARIANCE = 6.0
"""What the square of a random feature is divided by, so that the features sum to about 1."""

CANDIDATES = 64
"""Splits that a leaf weighs. With 32, a random tree goes from 4.2 to 5.6 %; 128 gain nothing."""
CANDIDATES_PER_ROW = 4
"""How many of them take their threshold from one row."""
MEAN_TREE_WEIGHT = 6.0
"""Mean weight of a row in a tree, as in leveraging bagging (A. Bifet et al., ECML PKDD 2010)."""
SPLIT_EVERY = 50.0
"""Weight of the rows that a leaf takes in between two looks at its candidates."""
LEAST_SIDE = 5.0
"""Least weight on either side of a split."""
CAREFUL_SPLIT, BOLD_SPLIT = 20.0, 10.0
"""Twice the nats that a split must gain, in rows: in the first half of the trees, and in the other.
A random tree is learned to 2.9 % by the one and 5.8 by the other, Bananas to 15.6 and 13.5; the
stack takes from both."""
TREE_ERROR_ROWS = 500
"""Rows that a tree's running error reaches back."""
TREE_DRIFT = 6.0
"""Standard deviations above its best at which a tree's error has it start over. At 4, Electricity's
trees start over three times as often."""
LEAST_EXPERT = 1e-3
"""Least probability of a tree, or of an expert, whose logarithm is taken."""
TREES_BYTES = 4 << 20
"""What the candidates of all leaves may take of a state: it bounds the leaves of a tree."""
MOST_LEAVES, FEWEST_LEAVES = 128, 8
"""Leaves of a tree at most, and below which there are no trees."""

STACK_VARIANCE = 0.01
"""Variance of the stack's weights before the first row. From 0.3 to 0.01 long streams are the same;
Phishing, with 1,250 rows, goes from 10.5 to 9.8 %."""
STACK_HORIZON = 1.0
"""With a horizon of K rows, it is at most this by K: 0.01 overfits what comes in lumps
(Electricity, 5,000 rows late: 34.2 %, instead of 25.8)."""
STACK_DRIFT = 1e-6
"""What is added to that variance with each row, without a horizon. With one, Electricity 500 and
5,000 rows late goes from 21.3 and 26.0 to 21.7 and 26.6 %."""
HORIZON_SHARES = {"quick": 1 / 24, "slow": 1 / 8}
"""First weights of the experts' log-probabilities with a horizon: of those that trust the last
rows, networks and bold trees, and of the others. All alike, Electricity 5,000 rows late is 26.0
instead of 25.8 %; without a horizon they are alike, and sum to 1."""
STACK_CURVATURE = 10.0
"""Largest curvature of a row in the stack."""

DEAD_ROWS = 256
"""Rows in a row without any unit that fires, after which a layer starts over."""
