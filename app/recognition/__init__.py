"""The use cases: enrol, classify, verify, embed, calibrate, change the model. Knows no HTTP."""
