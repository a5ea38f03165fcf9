"""The report on an artefact: measured once into ``report.json``, from which text and plots are rendered."""
