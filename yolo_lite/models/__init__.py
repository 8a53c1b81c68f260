"""Networks: blocks, backbones, necks, heads, and the detector they make."""
