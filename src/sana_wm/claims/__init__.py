"""Do the paper's claims hold at nano scale: variants, what is trained and measured of them, and the page that says it.

A room of its own, because it trains *and* evaluates, and neither of these two knows the other.
"""
