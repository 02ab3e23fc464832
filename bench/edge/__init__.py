"""Data and ways to search on which farann was slow, or short of the recall that was asked."""
