"""Work that outlives the process which accepted it: jobs, where they are kept, and who does them."""
