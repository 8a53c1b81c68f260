"""From files to batches: readers, recognition of layouts, augmentation, loading."""
