"""RGB bytes as an IMAGE: of ComfyUI (a torch tensor), or of the stand-in used in the demo."""


def make_image(width, height, data):
    try:
        from comfy.picture import Picture
    except ImportError:
        return tensor(width, height, data)
    return [Picture(width, height, data)]


def tensor(width, height, data):
    import torch

    flat = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    return flat.reshape(1, height, width, 3).to(torch.float32) / 255.0
