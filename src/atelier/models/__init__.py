"""Networks only: a frozen spec, the modules, and forward. No files, no devices, no schedules."""
