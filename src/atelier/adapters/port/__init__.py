"""Values for the ports of a network. One file each; none changes a module, or keeps anything between runs."""
