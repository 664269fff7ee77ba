"""Many videos to an adapter file each: which file each becomes, watching them, and what became of them."""
