"""Sparkplug B as a host application: payloads, births and deaths, order, and the rows that come of them."""
