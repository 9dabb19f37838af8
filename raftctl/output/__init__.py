"""How results look: tables for people, one document for programs."""
