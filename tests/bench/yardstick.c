/* Hedge Backpropagation of one row at a time, as fast as plain C gets: the limit to measure by.
 *
 * The update of the default settings: hedge on losses rescaled over the heads, heads at a rate of
 * their own, a recursive input head, clipped gradients, running standardisation. Each kernel is
 * read once going forward, and read and written once going back, where the error below it and its
 * own update are taken in one pass.
 *
 * Rows of units are padded with zeros to `P`, a multiple of the vector width, and stay zero.
 */

#include <float.h>
#include <math.h>
#include <string.h>

typedef struct {
    long n_layers, n_units, padded, n_features, n_classes;
    float rate, head_rate, head_boost, boost_rows, beta, floor, clip;
} Shape;

static float sum_of_squares(const float *restrict v, long n)
{
    float sum = 0;
    for (long j = 0; j < n; j++)
        sum += v[j] * v[j];
    return sum;
}

static float clip_factor(const Shape *s, float delta2, float h2)
{
    float norm = sqrtf(delta2 * (1 + h2));
    return norm > s->clip ? s->clip / norm : 1;
}

static void standardise(const Shape *s, const float *x, double *mean, double *m2, double count,
                        float *z)
{
    for (long j = 0; j < s->n_features; j++) {
        double origin = count > 0 ? mean[j] : x[j];
        double now = origin + (x[j] - origin) / (count + 1);
        m2[j] += (x[j] - mean[j]) * (x[j] - now) * (count > 0);
        mean[j] = now;
        z[j] = m2[j] > 0 ? (float)((x[j] - now) / sqrt(m2[j] / (count + 1))) : 0;
    }
}

static void forward(const float *restrict in, long n, const float *restrict kernel,
                    const float *restrict bias, float *restrict out, long P)
{
    memcpy(out, bias, P * sizeof(float));
    long i = 0;
    for (; i + 4 <= n; i += 4) {
        const float *k = kernel + i * P;
        float a = in[i], b = in[i + 1], c = in[i + 2], d = in[i + 3];
        for (long j = 0; j < P; j++)
            out[j] += a * k[j] + b * k[P + j] + c * k[2 * P + j] + d * k[3 * P + j];
    }
    for (; i < n; i++)
        for (long j = 0; j < P; j++)
            out[j] += in[i] * kernel[i * P + j];
    for (long j = 0; j < P; j++)
        out[j] = out[j] > 0 ? out[j] : 0;
}

/* Gives the error below a kernel, when that is asked for, and updates the kernel. */
static void backward(const float *restrict in, long n, float *restrict kernel,
                     const float *restrict delta, float step, float *restrict below, long P)
{
    for (long i = 0; i < n; i++) {
        float *k = kernel + i * P, sum = 0, by = step * in[i];
        for (long j = 0; j < P; j++) {
            sum += delta[j] * k[j];
            k[j] -= by * delta[j];
        }
        if (below)
            below[i] = sum;
    }
}

static float softmax_error(const float *logits, int label, long C, float weight, float *error,
                           float *mixed)
{
    float top = -FLT_MAX, sum = 0;
    for (long c = 0; c < C; c++)
        top = logits[c] > top ? logits[c] : top;
    for (long c = 0; c < C; c++)
        sum += error[c] = expf(logits[c] - top);
    for (long c = 0; c < C; c++) {
        error[c] /= sum;
        mixed[c] += weight * error[c];
        error[c] -= c == label;
    }
    return top + logf(sum) - logits[label];
}

static void recurse(long D, long C, const float *z, const float *error, int label, float *kernel,
                    float *bias, double *covariance, double *work)
{
    double curvature = 1, spread = 0;
    for (long c = 0; c < C; c++) {
        double p = error[c] + (c == label);
        curvature -= p * p;
    }
    curvature = fmax(curvature, 0) / (C - 1);
    for (long i = 0; i <= D; i++) {
        const double *row = covariance + i * (D + 1);
        work[i] = row[D];
        for (long j = 0; j < D; j++)
            work[i] += row[j] * z[j];
        spread += work[i] * (i < D ? z[i] : 1);
    }
    double gain = 1 / (1 + curvature * fmax(spread, 0));
    for (long i = 0; i < D; i++)
        for (long c = 0; c < C; c++)
            kernel[i * C + c] -= gain * work[i] * error[c];
    for (long c = 0; c < C; c++)
        bias[c] -= gain * work[D] * error[c];
    for (long i = 0; i <= D; i++)
        for (long j = 0; j <= D; j++)
            covariance[i * (D + 1) + j] -= curvature * gain * work[i] * work[j];
}

/* kernels: n_features x P, then (n_layers - 1) times n_units x P. heads: n_layers x n_classes x P.
 * alpha: n_layers + 1, of which the input head's is the first.
 * work: (n_layers + 2) * P + n_features + (n_layers + 1) * (n_classes + 1) + n_classes floats;
 * wide: n_features + 1 doubles. */
void learn(const Shape *s, long n_rows, const float *X, const int *y, float *kernels, float *biases,
           float *heads, float *head_biases, float *input_kernel, float *input_bias,
           double *covariance, float *alpha, double *mean, double *m2, long *count,
           float *probabilities, float *work, double *wide)
{
    long L = s->n_layers, P = s->padded, D = s->n_features, C = s->n_classes;
    float *h = work, *delta = h + L * P, *below = delta + P, *z = below + P;
    float *error = z + D, *loss = error + (L + 1) * C, *logits = loss + L + 1;
    float *kernel_of_layer_1 = kernels + D * P;

    for (long row = 0; row < n_rows; row++) {
        float *mixed = probabilities + row * C;
        float head_rate = s->head_rate * (1 + s->head_boost / (1 + *count / s->boost_rows));
        standardise(s, X + row * D, mean, m2, (double)*count, z);
        forward(z, D, kernels, biases, h, P);
        for (long l = 1; l < L; l++)
            forward(h + (l - 1) * P, s->n_units, kernel_of_layer_1 + (l - 1) * s->n_units * P,
                    biases + l * P, h + l * P, P);

        memset(mixed, 0, C * sizeof(float));
        memcpy(logits, input_bias, C * sizeof(float));
        for (long i = 0; i < D; i++)
            for (long c = 0; c < C; c++)
                logits[c] += z[i] * input_kernel[i * C + c];
        loss[0] = softmax_error(logits, y[row], C, alpha[0], error, mixed);
        for (long l = 0; l < L; l++) {
            for (long c = 0; c < C; c++) {
                const float *head = heads + (l * C + c) * P;
                float logit = head_biases[l * C + c];
                for (long j = 0; j < P; j++)
                    logit += h[l * P + j] * head[j];
                logits[c] = logit;
            }
            loss[l + 1] = softmax_error(logits, y[row], C, alpha[l + 1], error + (l + 1) * C, mixed);
        }

        memset(delta, 0, P * sizeof(float));
        for (long l = L - 1; l >= 0; l--) {
            float *out = h + l * P, *e = error + (l + 1) * C;
            float by_head = head_rate
                * clip_factor(s, sum_of_squares(e, C), sum_of_squares(out, P));
            for (long c = 0; c < C; c++) {
                float *head = heads + (l * C + c) * P;
                for (long j = 0; j < P; j++) {
                    delta[j] += alpha[l + 1] * e[c] * head[j];
                    head[j] -= by_head * e[c] * out[j];
                }
                head_biases[l * C + c] -= by_head * e[c];
            }
            for (long j = 0; j < P; j++)
                delta[j] = out[j] > 0 ? delta[j] : 0;
            const float *in = l ? h + (l - 1) * P : z;
            long width = l ? s->n_units : D;
            float *kernel = l ? kernel_of_layer_1 + (l - 1) * s->n_units * P : kernels;
            float step = s->rate
                * clip_factor(s, sum_of_squares(delta, P), sum_of_squares(in, width));
            memset(below, 0, P * sizeof(float));
            backward(in, width, kernel, delta, step, l ? below : 0, P);
            for (long j = 0; j < P; j++)
                biases[l * P + j] -= step * delta[j];
            memcpy(delta, below, P * sizeof(float));
        }

        recurse(D, C, z, error, y[row], input_kernel, input_bias, covariance, wide);

        float low = loss[0], high = loss[0];
        for (long l = 1; l <= L; l++) {
            low = loss[l] < low ? loss[l] : low;
            high = loss[l] > high ? loss[l] : high;
        }
        float total = 0;
        for (long l = 0; l <= L; l++) {
            float scaled = high > low ? (loss[l] - low) / (high - low) : 0;
            float weight = alpha[l] * powf(s->beta, scaled);
            alpha[l] = weight > s->floor ? weight : s->floor;
            total += alpha[l];
        }
        for (long l = 0; l <= L; l++)
            alpha[l] /= total;
        ++*count;
    }
}
