/* Rows of x, columns of y, and what goes with them, in the order in which the gradients read them.
 * Included once a precision by instantiate.h.
 */
/* A row panel of x in all its forms. */
RBF_FUNCTION void RBF_NAME(pack_gradient_rows)(const RBF_NAME(gradient_job) * job,
                                               int64_t row_panel) {
    const int64_t entries = job->points.x.columns * RBF_TILE_ROWS;
    const int64_t first = row_panel * RBF_TILE_ROWS;
    REAL *packed = RBF_NAME(packed_row_panel)(&job->points, row_panel);
    int64_t i, q;
    for (i = first; job->means && i < first + RBF_TILE_ROWS; ++i) {
        /* In the order and with the roundings of multiply_gradient: where P is one row of W, the
         * two are equal. */
        REAL mean = 0;
        for (q = 0; i < job->g.rows && q < job->g.columns; ++q)
            mean = RBF_NAME(multiply_add)(RBF_NAME(matrix_entry)(&job->product, i, q) -
                                              job->centre_of_weights[q],
                                          RBF_NAME(matrix_entry)(&job->g, i, q), mean);
        job->means[i] = mean;
    }
    RBF_NAME(pack_rows)(packed, job->points.x, first, RBF_TILE_ROWS);
    if (job->points.expanded && !job->by_products)
        memcpy(job->packed_x + row_panel * entries, packed, (size_t)entries * sizeof(REAL));
    RBF_NAME(expand_x)(&job->points, row_panel);
    if (RBF_BY_UNIT(&job->points) && job->x_terms)
        RBF_NAME(split_product_rows)(job, row_panel);
    else if (job->product_x)
        RBF_NAME(pack_product_rows)(&job->points, row_panel,
                                    RBF_NAME(product_piece)(job, row_panel, 0),
                                    RBF_NAME(product_x_stride)(job));
}

/* A panel of y in all its forms, and what else there is a column of K. */
RBF_FUNCTION void RBF_NAME(pack_gradient_panel)(const RBF_NAME(gradient_job) * job, int64_t panel) {
    const int64_t m = job->points.y.rows, depth = job->points.y.columns;
    const int64_t first = panel * COLUMNS, in_block = panel % job->panels_per_block;
    REAL *packed = RBF_NAME(packed_panel)(&job->points, panel);
    int64_t c, q;
    RBF_NAME(pack_rows)(packed, job->points.y, first, COLUMNS);
    if (job->paired_y)
        RBF_NAME(pair_columns)(job, packed,
                               job->paired_y + ((panel - in_block) * ((depth + 1) / 2) + in_block) *
                                                   2 * COLUMNS);
    RBF_NAME(expand_y)(&job->points, panel);
    if (RBF_BY_UNIT(&job->points) && job->y_terms) {
        RBF_NAME(split_product_columns)(job, panel);
    } else if (job->product_y) {
        const int64_t piece = COLUMNS * COLUMNS;
        RBF_NAME(pack_product_columns)(
            &job->points, panel,
            job->product_y +
                ((panel - in_block) * rbf_ceiling_division(depth, COLUMNS) + in_block) * piece,
            job->panels_per_block * piece);
    }
    if (!job->mixture)
        RBF_NAME(pack_coefficients)(job->coefficients + panel, job->gamma, job->amplitude, first,
                                    m);
    if (job->log_sums.data)
        for (c = first; c < first + COLUMNS; ++c)
            job->offsets[c] = RBF_NAME(entry)(job->offset, rbf_minimum(c, m - 1));
    if (job->weights.data)
        RBF_NAME(pack_factors)(job, job->weights, job->g, NULL, first, COLUMNS,
                               job->packed_weights + first * job->factors);
    for (q = 0; job->means && q < job->weights.columns; ++q)
        for (c = 0; c < rbf_minimum(COLUMNS, m - first); ++c)
            job->packed_weights[first * job->factors + q * COLUMNS + c] -=
                job->centre_of_weights[q];
}

/* Packs x, y and what goes with them; the threads share the loops. */
RBF_FUNCTION void RBF_NAME(pack_gradient)(const RBF_NAME(gradient_job) * job) {
    int64_t panel;
    RBF_OMP(for schedule(static) nowait)
    for (panel = 0; panel < job->points.row_panels; ++panel)
        RBF_NAME(pack_gradient_rows)(job, panel);
    RBF_OMP(for schedule(static))
    for (panel = 0; panel < job->points.panels; ++panel)
        RBF_NAME(pack_gradient_panel)(job, panel);
}
