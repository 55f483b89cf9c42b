/* Partial sums of the gradients: cleared, joined, and added up over tasks in a fixed order, so that
 * results do not depend on the threads. docs/gradients.md. Included once a precision by
 * instantiate.h.
 */
/* The first group's sums for one part of a panel of a block. */
RBF_INLINE REAL *RBF_NAME(first_sums)(const RBF_NAME(gradient_job) * job,
                                      RBF_NAME(partial_sums) partial, int64_t block, int64_t part,
                                      int64_t panel) {
    return partial.data + block * job->groups * partial.stride +
           (part * job->panels_per_block + panel % job->panels_per_block) * partial.size;
}

/* How many groups have entries of a panel: others may have left its sums as they were. */
RBF_INLINE int64_t RBF_NAME(groups_of_panel)(const RBF_NAME(gradient_job) * job, int64_t panel) {
    return rbf_ceiling_division(RBF_NAME(rows_before)(job, panel + 1), job->row_panels_per_group);
}

/* Partial sums of one panel, of the given block of the wave, added over the groups in their order:
 * rows of target (m, width). */
RBF_FUNCTION void RBF_NAME(reduce_panel)(const RBF_NAME(gradient_job) * job, int64_t panel,
                                         int64_t block, RBF_NAME(partial_sums) partial,
                                         int64_t width, REAL *target) {
    const int64_t columns = rbf_minimum(COLUMNS, job->points.y.rows - panel * COLUMNS);
    const int64_t within = partial.size / COLUMNS, groups = RBF_NAME(groups_of_panel)(job, panel);
    int64_t group, k, j, l;
    for (k = 0; k < width; k += LANES) {
        const int64_t some = rbf_minimum(LANES, width - k);
        for (j = 0; j < columns; j += LANES) {
            REAL *to = target + (panel * COLUMNS + j) * width + k;
            VECTOR square[RBF_NAME(LANES)] = {{0}};
            for (l = 0; l < some; ++l) {
                const REAL *from =
                    RBF_NAME(first_sums)(job, partial, block, (k + l) / within, panel) +
                    (k + l) % within * COLUMNS + j;
                for (group = 0; group < groups; ++group)
                    square[l] += RBF_NAME(load)(from + group * partial.stride);
            }
            RBF_NAME(transpose)(square);
            for (l = 0; l < rbf_minimum(LANES, columns - j); ++l)
                memcpy(to + l * width, square + l, (size_t)some * sizeof(REAL));
        }
    }
}

/* Sums of dx of a row panel, added over the blocks of a wave in their order, are dx; or, symmetric,
 * what is added to it. */
RBF_FUNCTION void RBF_NAME(reduce_rows)(const RBF_NAME(gradient_job) * job, int64_t row_panel) {
    const int64_t depth = job->points.x.columns, first = row_panel * RBF_TILE_ROWS;
    const int64_t rows = rbf_minimum(RBF_TILE_ROWS, job->points.x.rows - first);
    int64_t places[RBF_NAME(GRADIENT_TASKS)], blocks = 0, block, piece, r, k;
    for (block = 0; block < job->blocks_per_wave; ++block) {
        /* The last that added to these sums. */
        const int64_t last = job->blocks - 1 - (job->blocks - 1 - block) % job->blocks_per_wave;
        if (row_panel < RBF_NAME(rows_of_block)(job, last))
            places[blocks++] = block * job->dx_block_stride;
    }
    for (piece = 0; job->by_products && piece < depth; piece += COLUMNS)
        for (r = 0; r < rows; ++r) /* their sums follow each other in memory */
            for (k = piece; k < rbf_minimum(depth, piece + COLUMNS); k += LANES) {
                const REAL *from =
                    job->dx_sums + RBF_NAME(place_of_dx)(job, row_panel, k) + r * COLUMNS;
                REAL *to = job->dx + (first + r) * depth + k;
                const size_t bytes = (size_t)rbf_minimum(LANES, depth - k) * sizeof(REAL);
                VECTOR sum = {0}, before = {0};
                for (block = 0; block < blocks; ++block)
                    sum += RBF_NAME(load)(from + places[block]);
                if (job->symmetric)
                    memcpy(&before, to, bytes);
                sum += before;
                memcpy(to, &sum, bytes);
            }
    for (k = 0; !job->by_products && k < depth; ++k) {
        REAL sums[RBF_TILE_ROWS] = {0};
        for (block = 0; block < blocks; ++block) {
            const REAL *from =
                job->dx_sums + places[block] + RBF_NAME(place_of_dx)(job, row_panel, k);
            for (r = 0; r < RBF_TILE_ROWS; ++r)
                sums[r] += from[r];
        }
        for (r = 0; r < rows; ++r) {
            REAL *to = job->dx + (first + r) * depth + k;
            *to = job->symmetric ? *to + sums[r] : sums[r];
        }
    }
}

/* All partial sums of one panel, of the given block of the wave, into the results. */
RBF_FUNCTION void RBF_NAME(reduce_columns)(const RBF_NAME(gradient_job) * job, int64_t panel,
                                           int64_t block) {
    const RBF_NAME(partial_sums) partial = job->column_partial;
    const int64_t m = job->points.y.rows, columns = rbf_minimum(COLUMNS, m - panel * COLUMNS);
    const REAL *first = RBF_NAME(first_sums)(job, partial, block, 0, panel);
    int64_t group, t, j;
    for (group = 0; group < RBF_NAME(groups_of_panel)(job, panel); ++group, first += partial.stride)
        for (t = 0; t < job->terms; ++t) {
            const REAL *sums = first + t * 2 * COLUMNS;
            const int64_t to = t * m + panel * COLUMNS;
            for (j = 0; j < columns; ++j) {
                if (job->dgamma)
                    job->dgamma[to + j] -= sums[j];
                if (job->damplitude)
                    job->damplitude[to + j] += sums[COLUMNS + j];
            }
        }
    if (job->dy_partial.data)
        RBF_NAME(reduce_panel)(job, panel, block, job->dy_partial, job->points.y.columns,
                               job->symmetric ? job->dx : job->dy);
    if (job->dweights_partial.data)
        RBF_NAME(reduce_panel)(job, panel, block, job->dweights_partial, job->weights.columns,
                               job->dweights);
}

/* Entries of the sums of one task. */
RBF_INLINE int64_t RBF_NAME(count_sums)(const RBF_NAME(gradient_job) * job,
                                        RBF_NAME(partial_sums) partial) {
    return partial.parts * job->panels_per_block * partial.size;
}

RBF_INLINE void RBF_NAME(clear_sums)(const RBF_NAME(gradient_job) * job,
                                     RBF_NAME(partial_sums) partial, REAL *sums) {
    memset(sums, 0, (size_t)RBF_NAME(count_sums)(job, partial) * sizeof(REAL));
}

/* A task's partial sums, set to zero unless they are fresh; NULL if they are not wanted. */
RBF_INLINE REAL *RBF_NAME(take_sums)(const RBF_NAME(gradient_job) * job,
                                     RBF_NAME(partial_sums) partial, int64_t task, int fresh) {
    REAL *sums = partial.data ? partial.data + task * partial.stride : NULL;
    if (sums && !fresh)
        RBF_NAME(clear_sums)(job, partial, sums);
    return sums;
}

/* The sums of dx of some row panels, cleared. */
RBF_FUNCTION void RBF_NAME(clear_rows)(const RBF_NAME(gradient_job) * job, REAL *sums,
                                       int64_t first, int64_t last) {
    const int64_t depth = job->points.x.columns;
    const int64_t together = job->by_products ? (int64_t)COLUMNS : depth; /* columns k of dx */
    int64_t k;
    for (k = 0; k < depth; k += together)
        memset(sums + RBF_NAME(place_of_dx)(job, first, k), 0,
               (size_t)((last - first) * RBF_TILE_ROWS * together) * sizeof(REAL));
}

/* Reserves a thread's sums of a chunk at *place, which moves on; NULL if they are not wanted. */
RBF_INLINE REAL *RBF_NAME(take_chunk)(const RBF_NAME(gradient_job) * job,
                                      RBF_NAME(partial_sums) partial, REAL **place) {
    REAL *sums = partial.data ? *place : NULL;
    if (sums != NULL)
        *place += RBF_NAME(count_sums)(job, partial);
    return sums;
}

/* The sums of a chunk join those of the task, and are zero again: one running sum over all rows of
 * a task would lose more, the more they are. */
RBF_FUNCTION void RBF_NAME(join_chunk)(const RBF_NAME(gradient_job) * job,
                                       RBF_NAME(partial_sums) partial, REAL *chunk, REAL *total) {
    int64_t i;
    if (chunk == NULL)
        return;
    for (i = 0; i < RBF_NAME(count_sums)(job, partial); ++i) {
        total[i] += chunk[i];
        chunk[i] = 0;
    }
}
