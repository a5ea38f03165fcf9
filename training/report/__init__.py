"""The report on an artefact: measured once into ``report.json``, then put into words and pictures from that alone."""
