"""The lab: an experiment file is made, measured and reported, with what is done already left as it is."""
