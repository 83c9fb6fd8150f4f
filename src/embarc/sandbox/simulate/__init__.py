"""A believable portfolio's life, played against a running sandbox over HTTP."""

from embarc.sandbox.simulate.plan import Command, Scale, make_plan
from embarc.sandbox.simulate.play import Api, Played, PlayFailed, play

__all__ = ["Api", "Command", "PlayFailed", "Played", "Scale", "make_plan", "play"]
