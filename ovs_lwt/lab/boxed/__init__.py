"""A lab in a machine of its own, whose kernel has what ours may lack.

The lab in there is an ordinary lab, and the commands that speak to it are the ordinary commands,
run inside. From there to here:

    server   in the machine: runs commands for whoever is at the other end of its serial lines
    holder   the process that the machine belongs to; hands each client a line
    client   `ovs-lwt lab …`: its terminal, files and signals are those of the command inside
    frames   what goes over the lines
    record   which labs are in machines, and their beginning and end
"""
