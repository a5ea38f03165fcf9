"""Symbols to train on: icons, emoji, logos, flags and letters, rendered from npm packages that a lock file names.

``download`` fetches them, ``build`` renders them all into a pack, ``part`` divides the pack for training. Only
``render``, and so ``build``, needs the rasteriser and the font reader of the extra ``train``.
"""
