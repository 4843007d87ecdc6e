"""Presets of KerasHub with few and random weights."""


def save_preset(backbone, converter, folder):
    """The folder that holds both; a converter of None is left out."""
    backbone.save_to_preset(str(folder))
    if converter is not None:
        converter.save_to_preset(str(folder))
    return str(folder)


def make_resnet(keras_hub):
    """From images of any size to maps of 32 features."""
    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 32],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(None, None, 3),
    )
