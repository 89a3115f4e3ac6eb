"""An interactive page with scalp and virtual traces, in one file that opens offline."""
