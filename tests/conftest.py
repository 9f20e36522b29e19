"""Fixtures that every test may use; a test that fails shows what the parts of its stack said."""

from collections.abc import Generator

import pytest

from tests.support.api import rest as rest
from tests.support.backends import backend as backend
from tests.support.backends import backends_there as backends_there
from tests.support.backends import events as events
from tests.support.backends import place as place
from tests.support.bed import bed as bed
from tests.support.browser import chromium as chromium
from tests.support.browser import client_dist as client_dist
from tests.support.engine import engine as engine
from tests.support.gateway import gateway as gateway
from tests.support.gateway import gateway_bed as gateway_bed
from tests.support.ops import ops as ops
from tests.support.runtime import agents_world as agents_world
from tests.support.runtime import bench as bench
from tests.support.stack import Stack
from tests.support.stack import docker_stack as docker_stack
from tests.support.stack import stack as stack
from tests.support.storage import storage as storage
from tests.support.storage import world as world
from tests.support.store import store as store
from tests.support.synapse import synapse as synapse
from tests.support.talk import talk as talk
from tests.support.up import up as up
from tests.support.up import up_dir as up_dir


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            stack = getattr(value, "stack", value)
            if isinstance(stack, Stack):
                report.sections.append(("logs of the stack", stack.logs()))
    return report
