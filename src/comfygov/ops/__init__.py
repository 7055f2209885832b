"""One use case per file: takes a request, returns a result, prints nothing."""
