"""Problems, small models and metrics that the evidence is measured on."""
