"""AnomalyNCD (Huang et al. 2025, https://arxiv.org/abs/2410.14379): discovery of kinds among unlabelled rejects.

Anomaly maps become regions (`regions`), regions become crops (`crops`); a transformer that attends only to the region
(`encoder`) and classifiers (`heads`) learn kinds from two views of each crop (`views`, `losses`, `training`), and the
crops of an image vote for its kind (`merging`). `sort` combines these steps.
"""
