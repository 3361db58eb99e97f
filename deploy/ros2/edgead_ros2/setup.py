"""Package of ROS 2 (ament_python): `colcon build` installs the node `inspect`."""

from setuptools import setup

NAME = "edgead_ros2"
setup(
    name=NAME,
    version="0.1.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    entry_points={"console_scripts": [f"inspect = {NAME}.node:main"]},
)
