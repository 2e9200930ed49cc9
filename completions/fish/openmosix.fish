# Completion of openMosix's commands for fish: what could stand there, omcomplete knows.

function __openmosix_complete
    set -l current (commandline -ct)
    omcomplete -- (commandline -opc) "$current" 2>/dev/null | while read -l line
        switch $line
            case :files
                __fish_complete_path $current
            case :commands
                __fish_complete_command
            case '*'
                echo $line
        end
    end
end

for command in lessons migrate mosctl moslimit mosmon omagentd omanalyzer omcheck omcollector omdiscd omkey omlab omnetboot omsh omsim omtui openmosix setpe showmap tune mosrun nomig runhome runon cpujob iojob nodecay slowdecay fastdecay mps mtop
    complete -c $command -f -a '(__openmosix_complete)'
end
