"""Teaching from the page: a copy of a model learns marked parts; rejects are sorted and get names of kinds."""
