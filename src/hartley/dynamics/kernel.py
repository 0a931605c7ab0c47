"""The compiled kernels: one interpreter of register tapes and the integrators that call it.

Every system runs through the same machine code, so there is nothing to compile when a system is chosen. Registers
have a second axis, the lanes: one instruction is read once and carried out for many trajectories, which hides the
cost of interpreting and lets the processor use vector instructions.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit

from hartley.dynamics.expressions import OPCODES

ADD, SUB, MUL, DIV, POW, MAX, MIN = (OPCODES[name] for name in ("add", "sub", "mul", "div", "pow", "max", "min"))
NEG, SIN, COS, TAN = (OPCODES[name] for name in ("neg", "sin", "cos", "tan"))
SINH, COSH, TANH = (OPCODES[name] for name in ("sinh", "cosh", "tanh"))
EXP, LOG, SQRT, ABS, SIGN, HEAVISIDE = (OPCODES[n] for n in ("exp", "log", "sqrt", "abs", "sign", "heaviside"))

DONE, DIVERGED, STALLED, EXHAUSTED = 0, 1, 2, 3
HUGE = 1e100


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check  # the tests' import hook would wrap it, and numba cannot compile the wrapper
def run_tape(code, r):
    """Carry out the instructions on registers r[register, lane]."""
    lanes = r.shape[1]
    for k in range(code.shape[0]):
        op, x, y, z = code[k, 0], code[k, 1], code[k, 2], code[k, 3]
        if op == MUL:
            for j in range(lanes):
                r[z, j] = r[x, j] * r[y, j]
        elif op == ADD:
            for j in range(lanes):
                r[z, j] = r[x, j] + r[y, j]
        elif op == SUB:
            for j in range(lanes):
                r[z, j] = r[x, j] - r[y, j]
        elif op == DIV:
            for j in range(lanes):
                r[z, j] = r[x, j] / r[y, j]
        elif op == NEG:
            for j in range(lanes):
                r[z, j] = -r[x, j]
        elif op == POW:
            for j in range(lanes):
                r[z, j] = r[x, j] ** r[y, j]
        elif op == MAX:
            for j in range(lanes):
                r[z, j] = max(r[x, j], r[y, j])
        elif op == MIN:
            for j in range(lanes):
                r[z, j] = min(r[x, j], r[y, j])
        elif op == SIN:
            for j in range(lanes):
                r[z, j] = np.sin(r[x, j])
        elif op == COS:
            for j in range(lanes):
                r[z, j] = np.cos(r[x, j])
        elif op == TAN:
            for j in range(lanes):
                r[z, j] = np.tan(r[x, j])
        elif op == SINH:
            for j in range(lanes):
                r[z, j] = np.sinh(r[x, j])
        elif op == COSH:
            for j in range(lanes):
                r[z, j] = np.cosh(r[x, j])
        elif op == TANH:
            for j in range(lanes):
                r[z, j] = np.tanh(r[x, j])
        elif op == EXP:
            for j in range(lanes):
                r[z, j] = np.exp(r[x, j])
        elif op == LOG:
            for j in range(lanes):
                r[z, j] = np.log(r[x, j])
        elif op == SQRT:
            for j in range(lanes):
                r[z, j] = np.sqrt(r[x, j])
        elif op == ABS:
            for j in range(lanes):
                r[z, j] = abs(r[x, j])
        elif op == SIGN:
            for j in range(lanes):
                r[z, j] = np.sign(r[x, j])
        elif op == HEAVISIDE:
            for j in range(lanes):
                r[z, j] = 1.0 if r[x, j] > 0 else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def integrate(code, outputs, r, x, times, a, b, c, e, tolerance, scale, step, substeps, status, reached, out):
    """Runge-Kutta steps for every lane, landing on each of `times`, whose first is where `x` stands.

    With `substeps` > 0, that many equal steps between two times; otherwise the steps of each lane follow its error,
    estimated by the two rows of `e` as in Hairer's DOP853 (the second row is zero for other pairs).

    r : registers; inputs x, t. x : [dim, lane]. step, status, reached : [lane]. out : [time, dim, lane].
    """
    dim, lanes = x.shape
    stages = len(b)
    k = np.empty((stages + 1, dim, lanes))
    y = np.empty((dim, lanes))
    t = np.full(lanes, times[0])
    h = np.empty(lanes)
    moving = np.empty(lanes, np.bool_)
    for i in range(dim):
        for j in range(lanes):
            r[i, j] = x[i, j]
    r[dim, :] = t
    run_tape(code, r)
    for i in range(dim):
        for j in range(lanes):
            k[0, i, j] = r[outputs[i], j]
    out[0] = x
    for n in range(1, len(times)):
        target = times[n]
        steps = 0
        while True:
            busy = 0
            for j in range(lanes):
                moving[j] = status[j] == DONE and t[j] < target
                h[j] = 0.0
                if moving[j]:
                    left = target - t[j]
                    h[j] = left / (substeps - steps) if substeps > 0 else min(step[j], left)
                    busy += 1
            if busy == 0:
                break
            for s in range(1, stages + 1):
                for i in range(dim):
                    for j in range(lanes):
                        y[i, j] = 0.0
                    for q in range(s):
                        weight = a[s, q] if s < stages else b[q]
                        if weight != 0.0:
                            for j in range(lanes):
                                y[i, j] += weight * k[q, i, j]
                    for j in range(lanes):
                        y[i, j] = x[i, j] + h[j] * y[i, j]
                        r[i, j] = y[i, j]
                node = c[s] if s < stages else 1.0
                for j in range(lanes):
                    r[dim, j] = t[j] + node * h[j]
                run_tape(code, r)
                for i in range(dim):
                    for j in range(lanes):
                        k[s, i, j] = r[outputs[i], j]
            steps += 1
            for j in range(lanes):
                if not moving[j]:
                    continue
                finite = True
                for i in range(dim):
                    finite = finite and abs(y[i, j]) + abs(k[stages, i, j]) < HUGE  # false for NaN
                accept = finite
                if substeps > 0:
                    if not accept:
                        status[j] = DIVERGED
                        reached[j] = t[j]
                        continue
                    t[j] = target if steps == substeps else t[j] + h[j]
                else:
                    high, low = 0.0, 0.0
                    for i in range(dim):
                        five, three = 0.0, 0.0
                        for q in range(stages + 1):
                            five += e[0, q] * k[q, i, j]
                            three += e[1, q] * k[q, i, j]
                        unit = tolerance * (scale[i] + max(abs(x[i, j]), abs(y[i, j])))
                        high += (five / unit) ** 2
                        low += (three / unit) ** 2
                    error = h[j] * high / np.sqrt((high + 0.01 * low) * dim) if high != 0.0 else 0.0
                    order = 8 if stages == 12 else stages - 1
                    factor = min(10.0, max(0.2, 0.9 * error ** (-1.0 / order))) if error != 0.0 else 10.0
                    accept = accept and error <= 1.0  # false for NaN
                    if not accept:
                        step[j] = h[j] * (min(factor, 0.9) if finite else 0.2)
                        if t[j] + 0.1 * step[j] <= t[j]:
                            status[j] = STALLED if finite else DIVERGED
                            reached[j] = t[j]
                        continue
                    landed = h[j] >= target - t[j]
                    # a step cut short to land says nothing against the longer one
                    step[j] = max(step[j], h[j] * factor) if landed else h[j] * factor
                    t[j] = target if landed else t[j] + h[j]
                for i in range(dim):
                    x[i, j] = y[i, j]
                    k[0, i, j] = k[stages, i, j]
            if substeps == 0 and steps >= 100_000:
                for j in range(lanes):
                    if status[j] == DONE and t[j] < target:
                        status[j] = EXHAUSTED
                        reached[j] = t[j]
        out[n] = x


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def integrate_delay(code, outputs, r, x, f, begin, end, per_delay, h, start):
    """Classical Runge-Kutta of a scalar delay equation with `per_delay` steps a delay; constant history before step 0.

    x, f : [step, lane], state and derivative; filled from step `begin` to `end`. Registers: x, t, x(t - tau).
    """
    lanes = x.shape[1]
    k = np.empty((4, lanes))
    for n in range(begin, end):
        past = n - per_delay
        for s in range(4):
            node = 0.0 if s == 0 else (1.0 if s == 3 else 0.5)
            for j in range(lanes):
                r[0, j] = x[n, j] + (node * h * k[s - 1, j] if s > 0 else 0.0)
                r[1, j] = start + (n + node) * h
                if s == 0:
                    r[2, j] = x[max(past, 0), j]
                elif s == 3:
                    r[2, j] = x[max(past + 1, 0), j]
                elif past < 0:
                    r[2, j] = x[0, j]
                else:
                    r[2, j] = 0.5 * (x[past, j] + x[past + 1, j]) + 0.125 * h * (f[past, j] - f[past + 1, j])
            run_tape(code, r)
            for j in range(lanes):
                k[s, j] = r[outputs[0], j]
        for j in range(lanes):
            f[n, j] = k[0, j]
            x[n + 1, j] = x[n, j] + h / 6 * (k[0, j] + 2 * k[1, j] + 2 * k[2, j] + k[3, j])
    for j in range(lanes):
        r[0, j] = x[end, j]
        r[1, j] = start + end * h
        r[2, j] = x[max(end - per_delay, 0), j]
    run_tape(code, r)
    for j in range(lanes):
        f[end, j] = r[outputs[0], j]


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def integrate_noisy(code, outputs, r, x, times, amplitude, shocks, out):
    """Euler and Maruyama with additive noise; `shocks` are standard normal, [time, substep, dim, lane]."""
    dim, lanes = x.shape
    substeps = shocks.shape[1]
    for n in range(len(times) - 1):
        h = (times[n + 1] - times[n]) / substeps
        for s in range(substeps):
            for i in range(dim):
                for j in range(lanes):
                    r[i, j] = x[i, j]
            r[dim, :] = times[n] + s * h
            run_tape(code, r)
            for i in range(dim):
                for j in range(lanes):
                    x[i, j] += h * r[outputs[i], j] + amplitude[i] * np.sqrt(h) * shocks[n, s, i, j]
        out[n + 1] = x
