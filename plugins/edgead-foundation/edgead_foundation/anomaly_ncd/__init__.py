"""AnomalyNCD (Huang et al. 2025, https://arxiv.org/abs/2410.14379): rejects are sorted into kinds that nobody named.

Anomaly maps become regions (`regions`), regions become crops (`crops`); a transformer that looks at the region alone
(`encoder`) and its heads (`heads`) learn kinds from two views of each crop (`views`, `losses`, `training`), and the
crops of an image vote for its kind (`merging`). `sort` puts them together.
"""
