"""The nouns every room uses: ids, votes, entries, memberships, messages, outcomes."""
