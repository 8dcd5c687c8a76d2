"""Forms (multipart/form-data, RFC 7578): read, kept, written anew.

part.py          one part's head: its names, as bytes and as text
form_parser.py   bytes in, heads and contents out; no sockets
spool.py         where contents wait: in memory, beyond a megabyte in a file
shares.py        what several processes have on one disk
form_intake.py   a request's body as a form, bounded in size, time and memory
form_body.py     a whole form, and the body that goes up

What goes up has a boundary of our own making and heads of our own writing, so no upstream can read other parts in it
than were judged here, however lenient it is.
"""

from gateway.http.multipart.form_body import FormBody, Upload
from gateway.http.multipart.form_parser import FormParser, boundary_of
from gateway.http.multipart.part import Part
from gateway.http.multipart.spool import Spool, Spools

__all__ = ["FormBody", "FormParser", "Part", "Spool", "Spools", "Upload", "boundary_of"]
