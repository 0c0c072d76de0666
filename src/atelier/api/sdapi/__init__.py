"""A1111's HTTP interface, `/sdapi/v1/*`, as its clients use it (docs/compatibility/a1111-api.md)."""
