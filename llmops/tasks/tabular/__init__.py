"""Tables: a class or a number from a row of named fields. This module loads no torch."""
