"""From a resolved request to images: stages, planned without side effects, then run as a stream of events."""
