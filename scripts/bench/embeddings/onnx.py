"""onnx.py MODEL_FOLDER OUT: writes a BERT model of Hugging Face's layout (model.safetensors, config.json) in ONNX's form, for ONNX Runtime.

Needs the packages onnx, numpy and safetensors. The graph is BERT's definition in ONNX's operators of version 20, which the runtime fuses itself.
"""

import json
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

folder, out = sys.argv[1:]
weights = load_file(f"{folder}/model.safetensors")
config = json.load(open(f"{folder}/config.json"))
width, heads = config["hidden_size"], config["num_attention_heads"]
constants, nodes = [], []


def constant(name, value):
    constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return name


def op(kind, *inputs, **attributes):
    name = f"n{len(nodes)}"
    nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
    return name


def weight(name, transposed=False):
    return constant(name, weights[name].T if transposed else weights[name])


def linear(x, path):
    return op("Add", op("MatMul", x, weight(f"{path}.weight", True)), weight(f"{path}.bias"))


def norm(x, path):
    scale, bias = weight(f"{path}.weight"), weight(f"{path}.bias")
    return op("LayerNormalization", x, scale, bias, axis=-1, epsilon=config["layer_norm_eps"])


words = op("Gather", weight("embeddings.word_embeddings.weight"), "input_ids")
types = op("Gather", weight("embeddings.token_type_embeddings.weight"), "token_type_ids")
length = op("Gather", op("Shape", "input_ids"), constant("one", np.array([1])))
first, axis = constant("zero", np.array([0])), constant("axis", np.array([0]))
positions = op("Slice", weight("embeddings.position_embeddings.weight"), first, length, axis)
x = norm(op("Add", op("Add", words, types), positions), "embeddings.LayerNorm")
mask = op("Cast", op("Unsqueeze", "attention_mask", constant("axes", np.array([1, 2]))), to=TensorProto.FLOAT)
mask = op("Mul", op("Sub", constant("full", np.float32(1)), mask), constant("low", np.float32(-1e9)))
by_head = constant("by_head", np.array([0, 0, heads, width // heads]))
whole = constant("whole", np.array([0, 0, width]))
scale = constant("scale", np.float32(1 / np.sqrt(width // heads)))
for layer in range(config["num_hidden_layers"]):
    path = f"encoder.layer.{layer}"
    query, key, value = (op("Reshape", linear(x, f"{path}.attention.self.{name}"), by_head) for name in ("query", "key", "value"))
    query, value = (op("Transpose", each, perm=[0, 2, 1, 3]) for each in (query, value))
    scores = op("Mul", op("MatMul", query, op("Transpose", key, perm=[0, 2, 3, 1])), scale)
    mixed = op("MatMul", op("Softmax", op("Add", scores, mask), axis=-1), value)
    mixed = op("Reshape", op("Transpose", mixed, perm=[0, 2, 1, 3]), whole)
    x = norm(op("Add", linear(mixed, f"{path}.attention.output.dense"), x), f"{path}.attention.output.LayerNorm")
    inner = op("Gelu", linear(x, f"{path}.intermediate.dense"))
    x = norm(op("Add", linear(inner, f"{path}.output.dense"), x), f"{path}.output.LayerNorm")
nodes.append(helper.make_node("Identity", [x], ["last_hidden_state"]))

inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in ("input_ids", "attention_mask", "token_type_ids")]
outputs = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "length", width])]
graph = helper.make_graph(nodes, "bert", inputs, outputs, constants)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
onnx.checker.check_model(model)
onnx.save(model, out)
