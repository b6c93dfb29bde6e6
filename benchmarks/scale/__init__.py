"""Many clients at the same time: real ones through a real site cache, and a simulation that goes on from there."""
