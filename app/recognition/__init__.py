"""The use cases: enrol, classify, verify, embed, calibrate, change the model. Does not depend on HTTP."""
