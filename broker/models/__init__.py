"""
Models as controlled goods: signed media, the registry of what was imported, why a model was chosen, how it does.

``keys`` and ``media`` read and make media, ``shelf`` keeps their files in ``data_dir/models``, ``registry`` says what
was imported and ``entries`` what state each model is in, ``locate`` finds what a configuration names, ``recorded`` the
model of an annotation again, and ``figures`` watch it in service.
"""
