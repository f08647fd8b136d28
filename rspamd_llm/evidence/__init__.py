"""Evidence: what a careful person would look up about a sender and the links of a mail."""
