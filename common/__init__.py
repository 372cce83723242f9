"""What every room may use: files that appear whole, text that is fit to be printed.

Nothing here imports anything of ours or anything heavy: the second look at a recording is instant.
"""
