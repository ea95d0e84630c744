"""Pictures that come from strangers: read within bounds, turned upright, as RGB; and encoded again for a model.

    from adapter_kit.images import encode_picture, read_picture

Importing this loads neither Pillow nor numpy: the functions do, and say how to install Pillow where it is missing.
"""

from adapter_kit.images.encoding import EncodedPicture, encode_picture
from adapter_kit.images.limits import PictureLimits
from adapter_kit.images.picture import Picture
from adapter_kit.images.reading import FORMATS, PictureSource, open_picture, read_picture

__all__ = [
    "FORMATS",
    "EncodedPicture",
    "Picture",
    "PictureLimits",
    "PictureSource",
    "encode_picture",
    "open_picture",
    "read_picture",
]
