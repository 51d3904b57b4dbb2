"""Documents an MES or ERP can post, and their shapes for B2MML and SAP."""
