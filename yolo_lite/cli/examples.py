"""Two examples for each command, shown at the end of its help."""

from __future__ import annotations

from collections.abc import Mapping

EXAMPLES: Mapping[str, tuple[str, str]] = {
    "yolo-lite": ("yolo-lite detect --source photo.jpg", "yolo-lite train --data my_images --time 1h30m"),
    "yolo-lite train": (
        "yolo-lite train --data my_images --time 1h30m",
        "yolo-lite train --resume --out runs/train-1",
    ),
    "yolo-lite detect": (
        "yolo-lite detect --source photo.jpg",
        "yolo-lite detect --manifest images.txt --out found --worker 0/2",
    ),
    "yolo-lite eval": (
        "yolo-lite eval --data my_images --weights runs/train-1/best.pt",
        "yolo-lite eval --data my_images --detections rows.json --split val",
    ),
    "yolo-lite classify": (
        "yolo-lite classify train --data my_classes",
        "yolo-lite classify predict --weights runs/train-1/best.pt --source photo.jpg",
    ),
    "yolo-lite classify train": (
        "yolo-lite classify train --data my_classes --epochs 20",
        "yolo-lite classify train --data my_classes --config lenet",
    ),
    "yolo-lite classify eval": (
        "yolo-lite classify eval --weights runs/train-1/best.pt --data my_classes",
        "yolo-lite classify eval --weights best.pt --data my_classes --split val",
    ),
    "yolo-lite classify predict": (
        "yolo-lite classify predict --weights best.pt --source photo.jpg",
        "yolo-lite classify predict --weights best.pt --source shots --out a.csv",
    ),
    "yolo-lite config": ("yolo-lite config train.lr", "yolo-lite config --config nano --set train.epochs=30"),
    "yolo-lite serve": (
        "yolo-lite serve",
        "yolo-lite serve --weights cats=cats.pt raccoon.onnx --port 9000",
    ),
    "yolo-lite export": (
        "yolo-lite export --weights runs/train-1/best.pt",
        "yolo-lite export --image-size 320 --out small.onnx",
    ),
    "yolo-lite card": (
        "yolo-lite card --weights runs/train-1/best.pt",
        "yolo-lite card --weights runs/train-1/best.pt --out card.md",
    ),
    "yolo-lite convert": (
        "yolo-lite convert nanodet --param m.param --bin m.bin --out nanodet.pt",
        "yolo-lite convert darknet --cfg y.cfg --weights y.weights --out y.pt",
    ),
    "yolo-lite convert nanodet": (
        "yolo-lite convert nanodet --param m.param --bin m.bin --out nano.pt",
        "yolo-lite convert nanodet --param a --bin b --out m.pt --image-size 320",
    ),
    "yolo-lite convert yolox": (
        "yolo-lite convert yolox --weights yolox_s.pth --out yolox_s.pt",
        "yolo-lite convert yolox --param n.param --bin n.bin --out nano.pt",
    ),
    "yolo-lite convert darknet": (
        "yolo-lite convert darknet --cfg y.cfg --weights y.weights --out y.pt",
        "yolo-lite convert darknet --cfg y.cfg --weights y.conv --out y.pt --until 14",
    ),
    "yolo-lite data": ("yolo-lite data check --data my_images", "yolo-lite data show --data my_images"),
    "yolo-lite data convert": (
        "yolo-lite data convert --data my_images --to yolo --out my_yolo",
        "yolo-lite data convert --data my_yolo --to coco --out my_coco --copy",
    ),
    "yolo-lite data check": (
        "yolo-lite data check --data my_images",
        "yolo-lite data check --data my_images --fix repaired",
    ),
    "yolo-lite data subset": (
        "yolo-lite data subset --data my_images --images 200 --out small",
        "yolo-lite data subset --data my_images --classes person,car --out cars",
    ),
    "yolo-lite data stats": (
        "yolo-lite data stats --data my_images",
        "yolo-lite data stats --data my_images --split train --out train.png",
    ),
    "yolo-lite data show": (
        "yolo-lite data show --data my_images --split val --images 9",
        "yolo-lite data show --data my_images --augment --config nano",
    ),
    "yolo-lite inspect": ("yolo-lite inspect model --config nano", "yolo-lite inspect cam --image photo.jpg"),
    "yolo-lite inspect model": (
        "yolo-lite inspect model --config nano",
        "yolo-lite inspect model --weights runs/train-1/best.pt --image-size 320",
    ),
    "yolo-lite inspect filters": (
        "yolo-lite inspect filters --image photo.jpg",
        "yolo-lite inspect filters --image photo.jpg --out kernels.pdf",
    ),
    "yolo-lite inspect activations": (
        "yolo-lite inspect activations --image photo.jpg",
        "yolo-lite inspect activations --weights runs/train-1/best.pt",
    ),
    "yolo-lite inspect cam": (
        "yolo-lite inspect cam --image photo.jpg --class person",
        "yolo-lite inspect cam --image photo.jpg --box 20,40,180,300",
    ),
    "yolo-lite inspect grid": (
        "yolo-lite inspect grid --image photo.jpg",
        "yolo-lite inspect grid --image photo.jpg --score-threshold 0.2",
    ),
    "yolo-lite inspect convolution": (
        "yolo-lite inspect convolution",
        "yolo-lite inspect convolution --out convolution.pdf",
    ),
    "yolo-lite inspect box": (
        "yolo-lite inspect box --image photo.jpg --box 20,40,180,300",
        "yolo-lite inspect box --image a.jpg --box 9,9,99,99 --weights best.pt",
    ),
    "yolo-lite inspect patches": (
        "yolo-lite inspect patches --source shots",
        "yolo-lite inspect patches --source shots --weights best.pt --images 99",
    ),
    "yolo-lite inspect why": (
        "yolo-lite inspect why --image photo.jpg --box 20,40,180,300",
        "yolo-lite inspect why --box 20,40,180,300 --score-threshold 0.2",
    ),
    "yolo-lite tune": (
        "yolo-lite tune --task detect --data my_images --trials 10",
        "yolo-lite tune --task classify --data my_classes --time 2h",
    ),
    "yolo-lite bench": ("yolo-lite bench model --config nano", "yolo-lite bench train --data my_images"),
    "yolo-lite bench model": (
        "yolo-lite bench model",
        "yolo-lite bench model --backends torch,onnx",
    ),
    "yolo-lite bench train": (
        "yolo-lite bench train --data my_images",
        "yolo-lite bench train --data my_images --batch-size 16 --steps 50",
    ),
    "yolo-lite bench finetune": (
        "yolo-lite bench finetune --data cards fish --epochs 10",
        "yolo-lite bench finetune --data cards fish --time 10m --seeds 3",
    ),
    "yolo-lite bench detect": (
        "yolo-lite bench detect --source my_images/images",
        "yolo-lite bench detect --source film.mp4 --weights yolo_lite-pico-voc5",
    ),
    "yolo-lite bench serve": (
        "yolo-lite bench serve --memory-requests 2000",
        "yolo-lite bench serve --weights best.onnx --clients 16 --threads 2",
    ),
    "yolo-lite bench ops": ("yolo-lite bench ops", "yolo-lite bench ops --device cuda --num-classes 20"),
}
