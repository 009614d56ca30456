"""All kernels compile for an H100 without one, in each dtype; they are not run."""

import pytest

triton = pytest.importorskip("triton")
pytestmark = pytest.mark.slow

FLOATS = {"eps", "momentum"}
EXACT = {"means", "inverses", "slopes", "levels", "slants", "scales", "statistics", "partial"}  # float32 in any case
TABLES = {"table", "branch_table", "groups", "heads", "readers", "terms"}
DATA = {"x0", "x1", "y", "dx0", "dx1", "gradient", "out", *(f"{kind}{n}" for kind in "sgd" for n in range(8))}


def compiled(kernel, dtype, **constants):
    def kind(parameter):
        name = parameter.name
        if parameter.is_constexpr:
            return "constexpr"
        if name in FLOATS:
            return "fp32"
        if name in TABLES:
            return "*i32"
        return f"*{dtype}" if name in DATA else "*fp32" if name in {*EXACT, "kernels"} else "i32"

    signature = {parameter.name: kind(parameter) for parameter in kernel.params}
    source = triton.compiler.ASTSource(kernel, signature=signature, constexprs=constants)
    target = triton.backends.compiler.GPUTarget("cuda", 90, 32)
    return triton.compile(source, target=target, options={"num_warps": 4})


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("dilation", [0, 2])
def test_depthwise_kernels(dtype, stride, norm, dilation):
    from supernet.execution.triton import depthwise

    same = {"STRIDE": stride, "DILATION": dilation, "NORM": norm, "RELU": True}
    framed, blocks = {"FRAME": 5, "OWN": int(dilation > 0), **same}, depthwise.BLOCKS
    for together in (1, 4):
        pixels = blocks.forward if together > 1 else blocks.alone
        assert "cubin" in compiled(depthwise._forward, dtype, TOGETHER=together, BLOCK=pixels[0], **framed).asm
    compiled(depthwise._source_gradient, dtype, BLOCK=blocks.source[0], **framed)
    compiled(depthwise._kernel_parts, dtype, BLOCK=blocks.kernels[0], **same)
    compiled(depthwise._kernel_sums, dtype, FRAME=5, PARTS=depthwise.MOST_PARTS, BLOCK=64)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("pixels", [64, 1024, 63])
def test_norm_kernels(dtype, pixels):
    from supernet.execution.triton import norms

    for kernel in (norms._moments, norms._products):
        assert "cubin" in compiled(kernel, dtype, PIXELS=pixels, BLOCK=norms.SIZES.sums[0]).asm
    for kernel in (norms._add, norms._spread):
        compiled(kernel, dtype, PIXELS=pixels, BLOCK=norms.SIZES.passes[0])
    for on in (True, False):
        compiled(norms._settle, dtype, SCALED=on, TRACK=on, PARTS=norms.SIZES.parts, BLOCK=32)
    compiled(norms._conclude, dtype, PARTS=norms.SIZES.parts, BLOCK=32)
