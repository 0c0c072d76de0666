"""From a resolved request to pictures: stages, planned without side effects, then run as a stream of events."""
