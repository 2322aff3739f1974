"""The near cache: copies of stored responses, and the connections that invalidate them."""
