"""What a training needs beside its loop: the inputs of a step, logs, operation counts, the dry run."""
