"""Fixtures that every test may use."""

from tests.support.backends import backend as backend
from tests.support.backends import backends_there as backends_there
from tests.support.backends import events as events
from tests.support.backends import place as place
from tests.support.browser import chromium as chromium
from tests.support.browser import client_dist as client_dist
from tests.support.gateway import gateway as gateway
from tests.support.gateway import gateway_bed as gateway_bed
from tests.support.runtime import agents_world as agents_world
from tests.support.runtime import bench as bench
from tests.support.storage import storage as storage
from tests.support.storage import world as world
from tests.support.synapse import synapse as synapse
from tests.support.up import up as up
from tests.support.up import up_dir as up_dir
