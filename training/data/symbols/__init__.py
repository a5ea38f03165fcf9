"""Symbols to train on: icons, emoji, logos, flags and letters, rendered from npm packages pinned by a lock file.

``download`` fetches the packages, ``build`` renders them into a pack, ``part`` divides the pack for training. Only
``render``, and with it ``build``, needs the rasteriser and the font reader of the extra ``train``.
"""
