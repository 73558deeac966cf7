/* Hedge Backpropagation of one row at a time, as fast as plain C gets: the limit to measure by.
 *
 * The update of the default settings: min-max hedge loss, clipped gradients, running
 * standardisation. Each kernel is read once going forward, and read and written once going
 * back, where the error below it and its own update are taken in one pass.
 *
 * Rows of units are padded with zeros to `P`, a multiple of the vector width, and stay zero.
 */

#include <float.h>
#include <math.h>
#include <string.h>

typedef struct {
    long n_layers, n_units, padded, n_features, n_classes;
    float rate, beta, floor, clip;
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

/* kernels: n_features x P, then (n_layers - 1) times n_units x P. heads: n_layers x n_classes x P.
 * work: (2 * n_layers + 4) * P + n_features + 3 * n_layers * n_classes + n_layers floats. */
void learn(const Shape *s, long n_rows, const float *X, const int *y, float *kernels, float *biases,
           float *heads, float *head_biases, float *alpha, double *mean, double *m2, long *count,
           float *probabilities, float *work)
{
    long L = s->n_layers, P = s->padded, D = s->n_features, C = s->n_classes;
    float *h = work, *delta = h + L * P, *below = delta + P, *z = below + P;
    float *p = z + D, *error = p + L * C, *loss = error + L * C;
    float *kernel_of_layer_1 = kernels + D * P;

    for (long row = 0; row < n_rows; row++) {
        float *mixed = probabilities + row * C;
        standardise(s, X + row * D, mean, m2, (double)*count, z);
        forward(z, D, kernels, biases, h, P);
        for (long l = 1; l < L; l++)
            forward(h + (l - 1) * P, s->n_units, kernel_of_layer_1 + (l - 1) * s->n_units * P,
                    biases + l * P, h + l * P, P);

        memset(mixed, 0, C * sizeof(float));
        float low = FLT_MAX, high = -FLT_MAX;
        for (long l = 0; l < L; l++) {
            float logits[C], top = -FLT_MAX, sum = 0;
            for (long c = 0; c < C; c++) {
                const float *head = heads + (l * C + c) * P;
                float logit = head_biases[l * C + c];
                for (long j = 0; j < P; j++)
                    logit += h[l * P + j] * head[j];
                logits[c] = logit;
                top = logit > top ? logit : top;
            }
            for (long c = 0; c < C; c++)
                sum += p[l * C + c] = expf(logits[c] - top);
            for (long c = 0; c < C; c++) {
                p[l * C + c] /= sum;
                mixed[c] += alpha[l] * p[l * C + c];
                error[l * C + c] = alpha[l] * (p[l * C + c] - (c == y[row]));
            }
            loss[l] = top + logf(sum) - logits[y[row]];
            low = loss[l] < low ? loss[l] : low;
            high = loss[l] > high ? loss[l] : high;
        }

        memset(delta, 0, P * sizeof(float));
        for (long l = L - 1; l >= 0; l--) {
            float *out = h + l * P, *e = error + l * C;
            float by_head = s->rate
                * clip_factor(s, sum_of_squares(e, C), sum_of_squares(out, P));
            for (long c = 0; c < C; c++) {
                float *head = heads + (l * C + c) * P;
                for (long j = 0; j < P; j++) {
                    delta[j] += e[c] * head[j];
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

        float total = 0;
        for (long l = 0; l < L; l++) {
            float rescaled = high > low ? (loss[l] - low) / (high - low) : 0;
            float weight = alpha[l] * powf(s->beta, rescaled);
            alpha[l] = weight > s->floor ? weight : s->floor;
            total += alpha[l];
        }
        for (long l = 0; l < L; l++)
            alpha[l] /= total;
        ++*count;
    }
}
