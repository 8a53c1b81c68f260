"""The sections of the page of a report, each drawn from its part of report.json."""
